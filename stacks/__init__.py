"""The Pulumi program: reads one stack file, dispatches to a scenario, exports the outputs."""
