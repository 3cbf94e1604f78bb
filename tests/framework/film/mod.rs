//! Promises that only show when services serve, call each other and do long work: here those of the example.

mod abuse; // clients that take more than they give, and too many of them
mod calls; // what holds when a peer dies, is replaced, stands still or fails
mod consul; // being found, and finding others, through Consul
mod database; // what becomes of a process with what it owns
mod faults; // what holds when something dies, stands still or goes away
mod operations_cli; // what `mesh` says to people
mod restore; // what an operator does after a backup was restored
mod tracing; // one trace through every hop, and what a collector sees of it
mod up; // every service in a process of its own, by one command
