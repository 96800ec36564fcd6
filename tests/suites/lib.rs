//! Nothing to link: the suites are the test binary `suites`.
