"""Language and vision-language models that are asked for the entities; nothing is trained."""
