"""The verbs: what can be asked of Holdfast, whoever asks."""
