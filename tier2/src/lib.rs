//! One cloudlet: deploys backends and ends their tunnels
