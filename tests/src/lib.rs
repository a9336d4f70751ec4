//! End-to-end tests of Sinfonia and their harness
