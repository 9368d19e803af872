"""Networks: backbones, neck, BEV (bird's-eye-view) encoder, decoder and heads."""
