from celery import shared_task

from .models import Document


@shared_task
def count_words(number):
    document = Document.objects.get(pk=number)
    document.words = len(document.text.split())
    document.save(update_fields=["words"])
    return document.words
