//! WireGuard tunnels and the network namespaces they end in
