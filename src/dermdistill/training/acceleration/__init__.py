"""What makes steps quicker: compilation, CUDA graphs, cached teacher logits."""
