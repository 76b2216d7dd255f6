//! Every pixel format and every kind of camera JPEG against one reference picture, in every way
//! that drivers lay them out; and all that can be wrong with them.
#![allow(clippy::print_stdout)] // decibels, for those who change something

mod jpeg;
mod raw;
mod view;
