"""Agents: a configuration, and the LangGraph graph it becomes."""
