"""What drivers share that hand operations to another runtime on this computer.

Such a driver cuts a part out of the model's file and gives it to the runtime as a small model. The
driver says how its runtime opens a model (`Host`); programs, devices and contexts are here.
"""
