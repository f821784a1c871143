//! Encoders: a setup that is opened by its first frame, so that an open encoder has always been fed.
