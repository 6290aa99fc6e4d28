<<<<<<< HEAD
=======
//! x
>>>>>>> f01c2fd (Run functions as processes behind the real Lambda Runtime API)
fn main() {}
