//! Logs, traces and metrics of every Sinfonia program
