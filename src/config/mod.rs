//! What was typed becomes settings: all errors at once, with line and caret.
