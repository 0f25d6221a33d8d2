"""Sources of the C runner, shipped as data: `profiler.link` compiles them for each target."""
