"""What runs behind a rehearsed stack of SageMaker endpoints: containers, the gateway's task, and scaling.

All of it is told by what the stack declared in the AWS double, so a wrong declaration does not work here.
"""
