"""Gradients made visible: checked against differences, written out node by node, drawn, and measured layer by layer."""
