"""What a start finds out about its photos: the animals in them, bursts, which only measure the model."""
