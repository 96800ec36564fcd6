//! Source of Binance spot prices and klines over HTTP.
