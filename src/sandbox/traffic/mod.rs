//! Real HTTP: in-process pods, the mesh proxy that obeys routes, and the forward proxy that resolves service names.
mod routes;
