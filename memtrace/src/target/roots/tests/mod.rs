mod programs;
mod threads;
