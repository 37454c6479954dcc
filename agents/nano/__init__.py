"""The bundled nano vision-language model: its world of texts, its training, its weights."""
