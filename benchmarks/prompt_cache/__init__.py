"""What a provider's prompt cache makes of compaction: total prompt cost of recorded chats, policy by policy."""
