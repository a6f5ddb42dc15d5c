"""What `densedet check` looks for: anchors that fit no object, copies of images, losses, learning rates."""
