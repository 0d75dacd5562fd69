//! P3, P13, P14, P15, P17, P18: too little of something, too much of something else.
