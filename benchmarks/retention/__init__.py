"""Does a compacted chat history still hold what the next answer needs? No language model is used."""
