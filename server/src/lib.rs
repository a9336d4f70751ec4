//! The frame of Sinfonia's HTTP servers: health, metrics, problem answers, graceful stop
