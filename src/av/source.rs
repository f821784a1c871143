//! Sources: a demuxer that can be interrupted, and decoders that count what they could not decode.
