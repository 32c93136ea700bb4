"""The SageMaker gateway: the adapter, the double of the runtime API, and both over real sockets."""
