# The worked example of stores inside the cluster: Cassandra by cass-operator, PostgreSQL by
# CloudNativePG (Valkey is a chart, helm.tf). A cloud's own PostgreSQL and Redis, and a Cassandra
# that is kept elsewhere, are the better choice where they are to be had: name them.

locals {
  cassandra_contact = var.cassandra != null ? var.cassandra : "kn-chat-dc1-service.stores.svc:9042"
  database_url      = var.database != null ? var.database : "postgresql://knchat@database-rw.stores.svc:5432/knchat"
  redis_url         = var.redis != null ? var.redis : "redis://valkey.stores.svc:6379/0"

  store_objects = { for name, object in {
    cassandra = {
      apiVersion = "cassandra.datastax.com/v1beta1"
      kind       = "CassandraDatacenter"
      metadata   = { name = "dc1", namespace = "stores" }
      spec = {
        clusterName       = "kn-chat"
        serverType        = "cassandra"
        serverVersion     = "5.0.5"
        managementApiAuth = { insecure = {} } # the operator's own way to the nodes; shut it off from others by a NetworkPolicy
        size              = var.replicas
        racks             = [for rack in range(1, min(var.replicas, 3) + 1) : { name = "rack${rack}" }]
        storageConfig = {
          cassandraDataVolumeClaimSpec = { for key, value in {
            accessModes      = ["ReadWriteOnce"]
            resources        = { requests = { storage = var.storage.cassandra } }
            storageClassName = var.storage_class
          } : key => value if value != null }
        }
        resources = { requests = { cpu = "1", memory = "4Gi" }, limits = { cpu = "4", memory = "4Gi" } }
        config = {
          jvm-server-options = { initial_heap_size = "2G", max_heap_size = "2G" }
          cassandra-yaml = {
            num_tokens    = 16
            authenticator = "PasswordAuthenticator"
            authorizer    = "CassandraAuthorizer"
            role_manager  = "CassandraRoleManager"
          }
        }
      }
    }

    database = {
      apiVersion = "postgresql.cnpg.io/v1"
      kind       = "Cluster"
      metadata   = { name = "database", namespace = "stores" }
      spec = {
        instances = var.replicas
        storage   = { for key, value in { size = var.storage.database, storageClass = var.storage_class } : key => value if value != null }
        bootstrap = { initdb = { database = "knchat", owner = "knchat" } }
      }
    }
  } : name => object if name == "cassandra" ? var.cassandra == null : var.database == null }
}
