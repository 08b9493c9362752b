//! What makes objects come alive: Deployment, ReplicaSet, HPA, EndpointSlice, Namespace, garbage collection, node.
