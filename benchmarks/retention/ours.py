def compact(messages, budget):
    return messages
