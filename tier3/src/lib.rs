//! Runs an application beside its backend on a nearby cloudlet
