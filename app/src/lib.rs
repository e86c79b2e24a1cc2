//! Consumer API and pages
