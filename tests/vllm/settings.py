"""How the engines of the tests are set up."""

from dataclasses import replace

from agents.vllm_settings import VllmSettings

# One thread: the nano model's matrices are small, and waiting costs more than is gained.
SMALL = VllmSettings(max_model_len=768, kv_cache_gb=0.25, threads=1)
BARE = replace(SMALL, max_loras=0)
