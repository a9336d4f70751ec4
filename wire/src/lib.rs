//! What travels between Sinfonia's tiers, as types that cannot hold invalid values
