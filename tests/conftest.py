import torch

# The networks under test are tiny, and test processes may share the machine.
torch.set_num_threads(1)
