//! A local stand-in for Binance's market data API, from a seeded price process.
