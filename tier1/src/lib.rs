//! Matches clients with nearby cloudlets
