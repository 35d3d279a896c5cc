"""Makes a user who may do `ses:*` and the identity `a@example.com`; prints the user's key.

Four calls, which are as many as the server lets through without a signature that is right.
"""

import json
import sys

import boto3

ANYTHING_OF_SES = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "ses:*", "Resource": "*"}],
}


def main(url):
    def client(service):
        nobody = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
        return boto3.client(service, endpoint_url=url, region_name="us-east-1", **nobody)

    iam = client("iam")
    iam.create_user(UserName="mailer")
    policy = json.dumps(ANYTHING_OF_SES)
    iam.put_user_policy(UserName="mailer", PolicyName="ses", PolicyDocument=policy)
    key = iam.create_access_key(UserName="mailer")["AccessKey"]
    client("sesv2").create_email_identity(EmailIdentity="a@example.com")
    print(key["AccessKeyId"], key["SecretAccessKey"])


main(sys.argv[1])
