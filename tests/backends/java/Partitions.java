import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Base64;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

/** Where Kafka's own producer puts records: keys in base64 on stdin, a line each; the partitions on stdout. */
public class Partitions {
    public static void main(String[] args) throws Exception {
        int partitions = Integer.parseInt(args[0]);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            System.out.println(BuiltInPartitioner.partitionForKey(Base64.getDecoder().decode(line), partitions));
        }
    }
}
