//! Small programs that embed PureLB: see the other files beside this one.
