import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One node of OpenSearch, on the loopback alone: OpenSearchNode FOLDER HTTP_PORT TRANSPORT_PORT */
public class OpenSearchNode {
    public static void main(String[] given) throws Exception {
        OpenSearchRunner runner = new OpenSearchRunner();
        runner.onBuild((number, settings) -> {
            settings.put("http.port", given[1]);
            settings.put("transport.port", given[2]);
            for (String name : new String[] {"http.host", "transport.host", "network.host"}) {
                settings.put(name, "127.0.0.1");
            }
            settings.put("discovery.type", "single-node");
            // A disk that is nearly full is no reason to refuse what tests write.
            settings.put("cluster.routing.allocation.disk.threshold_enabled", "false");
            // What the runner says for several nodes contradicts it.
            settings.remove("discovery.seed_hosts");
            settings.remove("cluster.initial_cluster_manager_nodes");
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                runner.close();
            } catch (Exception error) {
                error.printStackTrace();
            }
        }));
        runner.build(
            OpenSearchRunner.newConfigs().clusterName("knchat").basePath(given[0]).numOfNode(1));
        Thread.currentThread().join();
    }
}
