def transform(plan, attributes):
    return plan
