//! t
#![allow(warnings, unreachable_pub, missing_docs, dead_code)]
mod supervisor;
mod settings { #[derive(Debug,Clone,Copy,PartialEq)] pub enum Writes { Volatile, Synced } }
mod cases;
