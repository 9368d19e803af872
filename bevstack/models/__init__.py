"""Networks: backbones, neck, bird's-eye-view encoder, decoder and heads."""
