"""What a detector or a backbone costs: parameters, multiply-adds, memory, training plans."""
