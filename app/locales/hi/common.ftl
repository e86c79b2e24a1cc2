# Words used on more than one page.
brand = ऊर्जा
language = भाषा
noscript = इस पेज के लिए JavaScript चाहिए। यही आँकड़े /api/v1 के API में भी हैं।
loading = लोड हो रहा है…
as-of = { $time } तक की जानकारी
offline = सर्वर से जवाब नहीं मिला। ये पिछले ज्ञात आँकड़े हैं, { $time } के।
no-answer = सर्वर से जवाब नहीं मिला। हर कुछ सेकंड में फिर से कोशिश हो रही है।
units = { $units } यूनिट
