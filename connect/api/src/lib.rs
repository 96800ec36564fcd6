//! What a connector author needs: sources, sinks, config definitions, records.
