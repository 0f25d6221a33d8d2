"""Where code runs: boards, the runner on them, and the conversation between host and runner."""
