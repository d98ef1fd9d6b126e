"""From a pruned prefill to tokens: slots written in place, kernels, steps, one prefill for many methods."""
