//! Rolling file sink and line source.
