"""The code of kernels: what each schedule means, written as TIR for TVM to compile."""
